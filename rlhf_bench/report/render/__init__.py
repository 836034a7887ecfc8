"""Tables as Markdown, CSV, LaTeX, Excel, HTML and text: a loop over what a Table says of itself, a file a format."""
