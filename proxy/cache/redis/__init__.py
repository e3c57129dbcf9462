"""The shared tier: what several gateways keep together in one Redis, and how they tell each other what is erased."""
