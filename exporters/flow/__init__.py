"""How a request to export becomes steps: sources, order, stored answers and what is told of them."""
