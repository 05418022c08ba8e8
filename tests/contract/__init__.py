"""One suite for the fake broker and the real one: what the engine relies on holds on both."""
