"""Orders: takes an order, and sees to it that stock, money and order agree in the end, whatever breaks."""
