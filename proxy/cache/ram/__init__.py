"""The RAM tier of one worker: its store, and the sweeper that gives back what is erased."""
