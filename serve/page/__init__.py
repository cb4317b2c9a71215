"""The page that people use: a Gradio frame, and requests that leave nothing of a visitor behind."""
