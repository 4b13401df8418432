"""How good the small generator is."""
