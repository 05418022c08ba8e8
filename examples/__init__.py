"""Programs that use Isthmus from outside."""
