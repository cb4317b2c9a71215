"""What browsers need to answer by themselves: runtime, page, folder; and one that tries it."""
