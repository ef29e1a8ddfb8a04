"""Colours of all figures; the page replaces ink and faint by its own."""

INK, FAINT = "#1f1d1a", "#b9b4aa"
SHARED, PRIVATE = "#2a8c93", "#d0653f"
CLASSES = ("#2a8c93", "#d0653f", "#7a6cc2", "#c79a2b", "#4f9a52", "#c2527f", "#4a7fc1", "#8d6b4f", "#7f8b94", "#a3b03c")
