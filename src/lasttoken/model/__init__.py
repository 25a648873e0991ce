"""The GPT, its published weights, and the classifier made of them."""
