"""What every surface shows alike: safe text, payload trees, charts, static HTML. Values in, values out."""
