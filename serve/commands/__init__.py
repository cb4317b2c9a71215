"""The click commands of serving; one file a command, which declares `COMMAND`."""
