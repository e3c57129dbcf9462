"""The express lane: repeated requests for stored media, answered from within `data_received`."""
