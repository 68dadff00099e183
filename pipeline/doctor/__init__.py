"""What is installed and works on this machine: each thing tried for real, in a process of its own."""
