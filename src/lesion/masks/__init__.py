"""Stage `masks`: sparse sets of weights, what they share, and how to zero them in memory."""
