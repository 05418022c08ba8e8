"""The only ways in: the job client and the command line."""
