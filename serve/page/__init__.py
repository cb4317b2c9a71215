"""The page that people use: Gradio blocks over `serve.classifier`, mounted without a way outside."""
