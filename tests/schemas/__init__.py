"""The contract: codec, catalogue, compatibility."""
