"""How the embedded models are trained. Nothing here is needed to score or to generate."""
