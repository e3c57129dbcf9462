"""The disk tier: files of bodies and an index of them, which the workers of one node share."""
