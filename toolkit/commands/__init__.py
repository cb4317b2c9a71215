"""The click commands of the toolkit; one file a command, which declares `COMMAND`."""
