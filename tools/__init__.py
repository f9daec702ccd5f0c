"""Small programs behind the Makefile: none of them is part of the package."""
