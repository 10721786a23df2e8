# One image for both services of docker-compose.yml: `sipagent asterisk up` and `sipagent run` are commands of the
# same program. Debian 13, since its Python has a wheel of everything in requirements.lock. No stable Debian has
# Asterisk 22, so it comes the way `make run` brings it: from sid, into a root with its own libraries.

FROM debian:trixie-slim AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/sipagent/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    SIPAGENT_CACHE=/opt/switch

# Asterisk, SIPp and flite: packages that apt has verified, unpacked; the fetcher needs Python's own library only.
# A layer is kept: `docker compose build --pull --no-cache` brings what Debian has mended since.
FROM base AS switch
WORKDIR /src
COPY sipagent/__init__.py sipagent/errors.py sipagent/
COPY sipagent/asterisk sipagent/asterisk
RUN python3 -m sipagent.asterisk.fetch \
    && rm -rf /opt/switch/apt /opt/switch/debs

FROM base AS program
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock ./
RUN python3 -m venv /opt/sipagent \
    && pip install --no-cache-dir --require-hashes -r requirements.lock
COPY pyproject.toml README.md hatch_build.py ./
COPY asterisk-conf asterisk-conf
COPY sipagent sipagent
RUN pip install --no-cache-dir --no-deps --no-build-isolation .

FROM base
COPY --from=switch /opt/switch /opt/switch
COPY --from=program /opt/sipagent /opt/sipagent
COPY sipagent.example.toml /etc/sipagent/sipagent.toml
# A new volume takes owner and mode from here.
RUN useradd --system --no-create-home sipagent \
    && install -d -o sipagent -g sipagent -m 0700 \
        /var/lib/sipagent /var/lib/sipagent/records /var/lib/sipagent/recordings
ENV SIPAGENT_RUN_DIR=/var/lib/sipagent
WORKDIR /etc/sipagent
USER sipagent
CMD ["sipagent", "--help"]
