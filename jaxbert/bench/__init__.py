"""`jaxbert bench`: one model by every engine and number format that runs here, side by side."""
