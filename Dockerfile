# The dashboard with the released models, for a host with 2 GB of memory and one core:
#
#   podman build --tag cifake .
#   podman run --rm --init --publish 8866:8866 cifake                   a new token, which it prints
#   podman run ... --env JUPYTER_TOKEN=SECRET cifake                    a token of your own
#   podman run ... cifake --Voila.token=                                open to everybody
#
# `docker` takes the same words. README.md sets limits.
FROM python:3.11-slim

WORKDIR /srv/cifake
ENV PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore

# First, for they change least: a new model does not install them again.
COPY requirements.lock ./
COPY binder/requirements.txt binder/
RUN pip install --requirement binder/requirements.txt

COPY . .
RUN pip install --no-deps .

# One core: more threads would only take memory. Nothing is written but in HOME, so that the rest
# may be read-only.
ENV HOME=/tmp \
    OMP_NUM_THREADS=1 \
    OPENBLAS_NUM_THREADS=1 \
    TF_CPP_MIN_LOG_LEVEL=2
USER 1000:1000
EXPOSE 8866
# A file that needs no token; a page would cost a kernel. (podman: build with --format docker)
HEALTHCHECK --start-period=60s CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://localhost:8866/voila/static/voila.js', timeout=10)"]
ENTRYPOINT ["python", "-m", "voila", "notebooks/dashboard.ipynb", "--no-browser", "--Voila.ip=0.0.0.0", "--port=8866", "--Voila.custom_display_url=http://localhost:8866"]
CMD ["--Voila.auto_token=True"]
