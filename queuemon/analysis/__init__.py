"""Pure functions over what the stores said: signatures, contrast, timeline, onset, forecast. Values in, values out."""
