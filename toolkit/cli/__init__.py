"""What every command shares: its options, the reports that it writes, what it prints."""
