"""A training as a process: its children, signals, watchdog, failures and what it used of the machine."""
