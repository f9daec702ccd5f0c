"""The screens: state that knows no widget, the widgets over it, and what starts JupyterLab and Voilà."""
