"""Numbers: pure functions on integers, arrays and ciphertexts. No messages, no I/O, no clock, no randomness."""
