"""What the operating system offers: complete files, locks, processes, folders, the machine."""
