"""The engine piece by piece: what comes in, what goes out, what fails, what rests."""
