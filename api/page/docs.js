// Starts Swagger UI. The key that the page at `/` has for this tab is filled in here as well.

import { storedKey } from "./api.js";

const UI = window.SwaggerUIBundle;

// Fills the key into each scheme of the description that is a key in a header.
function authorize(ui) {
  const key = storedKey();
  const schemes = ui.specSelectors.specJson().getIn(["components", "securitySchemes"]);
  if (!key || !schemes) return;
  schemes.forEach((scheme, name) => {
    if (scheme.get("type") === "apiKey") ui.preauthorizeApiKey(name, key);
  });
}

const ui = UI({
  url: "openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  displayRequestDuration: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  tryItOutEnabled: true,
  filter: false,
  persistAuthorization: false, // it would keep the key in localStorage, beyond the tab
  validatorUrl: null, // otherwise it asks a server on the internet
  requestSnippetsEnabled: true,
  presets: [UI.presets.apis],
  requestInterceptor: withKey,
  onComplete: () => authorize(ui),
});

// The description itself may need the key as well.
function withKey(request) {
  const key = storedKey();
  if (request.loadSpec && key) request.headers = { ...request.headers, "X-API-Key": key };
  return request;
}
