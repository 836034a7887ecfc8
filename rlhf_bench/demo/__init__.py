"""The demo: a prompt, and the answers of several checkpoints side by side, with what evaluation measures of each.

spec     what a demo is made of; session  its models: answers token by token, and their numbers
app      the page, by gradio; export  a folder that runs on Hugging Face Spaces, with this package as a wheel
"""
