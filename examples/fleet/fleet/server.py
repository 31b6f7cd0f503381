"""What the server runs."""

from srlora.flower import server_app

app = server_app()
