"""From the settings of CORS to what they mean, and what is wrong with them."""

from gateway.config.building.sources import Sources
from gateway.config.reading.yaml_tree import Location
from gateway.config.sections.cors.model import CorsConfig
from gateway.config.sections.cors.settings import Cors


def cors_config(sources: Sources, cors: Cors, location: Location) -> CorsConfig:
    """The domain type. `location` is that of the section in the file, empty for that of the environment."""
    place = sources.place("routes", "cors", location=location)
    if "*" in cors.origins and len(cors.origins) > 1:
        place.report(("origins",), ",".join(cors.origins), "* alone, or origins without it")
    elif "*" in cors.origins and cors.credentials:
        # Browsers ignore such an answer (the Fetch standard, section 3.2.5), and to name whoever asks instead would
        # give every page the user's session.
        place.report(("credentials",), cors.credentials, f"false, or {place.name(('origins',))} without *")
    lists = {name: tuple(getattr(cors, name)) for name in ("origins", "methods", "headers", "expose")}
    return CorsConfig(
        **lists,
        credentials=cors.credentials,
        max_age=cors.max_age,
        public_refusals=cors.public_refusals,
    )
