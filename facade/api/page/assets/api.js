// Shows the description of the API, and loads nothing from other hosts.
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: false,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
