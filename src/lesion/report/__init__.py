"""Stage `report`: the tables as one page that needs nothing else, as figures, and as a summary."""
