"""The commands of `isthmus`, one file each."""
