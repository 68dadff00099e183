"""Text in: files of many kinds become cleaned documents."""
