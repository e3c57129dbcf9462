"""The cache: tiers that hold stored responses, fills that make them, and the engine that carries decisions out."""
