"""What each device runs."""

from srlora.flower import client_app

app = client_app()
