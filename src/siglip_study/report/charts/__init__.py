"""Figures: drawn to SVG when the page is made, told in words, and with their data beside them."""
