"""What the operating system gives a process: cores, open files, and files that somebody may replace."""
