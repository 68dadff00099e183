"""Tagged documents become sequences of word pieces."""
