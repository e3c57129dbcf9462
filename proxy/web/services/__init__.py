"""The services behind the handlers, which the composition root makes and hands over.

`gateway` groups them by what a handler needs. Most come from the rooms below `web`. Three live here: `deletion` deletes
a media at the provider and in every tier, `young_messages` knows the messages whose media may still be on their way to
the provider's storage, and `lane_tally` keeps the answers of the express lane until they are counted.

Nothing here takes a request apart or writes an answer: that is what the handlers do.
"""
