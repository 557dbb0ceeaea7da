// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/openapi.h"

#include <cctype>
#include <nlohmann/json.hpp>
#include <string>

#include "common/version.h"
#include "server/api/cog/input_table.h"

namespace idefics {
namespace {

using nlohmann::json;

// "max_new_tokens" -> "Max New Tokens"
std::string Title(const std::string& name) {
  std::string title = name;
  bool word_start = true;
  for (char& c : title) {
    if (c == '_') c = ' ';
    if (word_start) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    word_start = c == ' ';
  }
  return title;
}

json Ref(const std::string& name) { return {{"$ref", "#/components/schemas/" + name}}; }

json StringField(const std::string& title) { return {{"title", title}, {"type", "string"}}; }

json DateField(const std::string& title) {
  return {{"format", "date-time"}, {"title", title}, {"type", "string"}};
}

void AddInputs(json& schemas) {
  json properties = json::object();
  int order = 0;
  for (const InputSpec& spec : AllInputs()) {
    json property = InputSchema(spec, InputOrigin::kHttp);
    if (property.contains("enum")) {
      schemas[spec.name] = {{"description", "An enumeration."},
                            {"enum", property["enum"]},
                            {"title", spec.name},
                            {"type", property["type"]}};
      property = {{"allOf", json::array({Ref(spec.name)})}};
    } else {
      property["title"] = Title(spec.name);
    }
    if (!spec.default_value.is_null()) property["default"] = spec.default_value;
    property["description"] = spec.description;
    property["x-order"] = order++;
    properties[spec.name] = std::move(property);
  }
  schemas["Input"] = {{"title", "Input"},
                      {"type", "object"},
                      {"properties", std::move(properties)},
                      {"anyOf", {{{"required", {"image", "text"}}}, {{"required", {"prompt"}}}}}};
}

json OutputSchema(OutputKind output) {
  if (output == OutputKind::kString) return StringField("Output");
  return {{"items", {{"type", "string"}}},
          {"title", "Output"},
          {"type", "array"},
          {"x-cog-array-display", "concatenate"},
          {"x-cog-array-type", "iterator"}};
}

json Enumeration(const std::string& title, const json& values) {
  return {
      {"description", "An enumeration."}, {"enum", values}, {"title", title}, {"type", "string"}};
}

void AddObjects(json& schemas) {
  json request = {
      {"id", StringField("Id")},
      {"input", Ref("Input")},
      {"created_at", DateField("Created At")},
      {"context",
       {{"title", "Context"}, {"type", "object"}, {"additionalProperties", {{"type", "string"}}}}},
      {"webhook", {{"title", "Webhook"}, {"type", "string"}, {"format", "uri"}}},
      {"webhook_events_filter",
       {{"title", "Webhook Events Filter"}, {"type", "array"}, {"items", Ref("WebhookEvent")}}}};
  schemas["PredictionRequest"] = {
      {"properties", std::move(request)}, {"title", "PredictionRequest"}, {"type", "object"}};
  json response = {{"completed_at", DateField("Completed At")},
                   {"created_at", DateField("Created At")},
                   {"error", StringField("Error")},
                   {"id", StringField("Id")},
                   {"input", Ref("Input")},
                   {"logs", StringField("Logs")},
                   {"metrics", {{"title", "Metrics"}, {"type", "object"}}},
                   {"output", Ref("Output")},
                   {"started_at", DateField("Started At")},
                   {"status", StringField("Status")},
                   {"version", StringField("Version")}};
  schemas["PredictionResponse"] = {
      {"properties", std::move(response)}, {"title", "PredictionResponse"}, {"type", "object"}};
  schemas["Status"] =
      Enumeration("Status", {"starting", "processing", "succeeded", "canceled", "failed"});
  schemas["WebhookEvent"] = Enumeration("WebhookEvent", {"start", "output", "logs", "completed"});
  schemas["HTTPValidationError"] = {
      {"properties",
       {{"detail", {{"items", Ref("ValidationError")}, {"title", "Detail"}, {"type", "array"}}}}},
      {"title", "HTTPValidationError"},
      {"type", "object"}};
  const json location = {{"items", {{"anyOf", {{{"type", "string"}}, {{"type", "integer"}}}}}},
                         {"title", "Location"},
                         {"type", "array"}};
  schemas["ValidationError"] = {
      {"properties",
       {{"loc", location}, {"msg", StringField("Message")}, {"type", StringField("Error Type")}}},
      {"required", {"loc", "msg", "type"}},
      {"title", "ValidationError"},
      {"type", "object"}};
}

json Answer(const json& schema, const std::string& description) {
  return {{"content", {{"application/json", {{"schema", schema}}}}}, {"description", description}};
}

json Operation(const std::string& id, const std::string& summary, const json& answer) {
  return {{"operationId", id},
          {"summary", summary},
          {"responses", {{"200", Answer(answer, "Successful Response")}}}};
}

json Predict(const std::string& id, const std::string& summary, OutputKind output) {
  json operation = Operation(id, summary, Ref("PredictionResponse"));
  operation["description"] = "Run a single prediction on the model";
  operation["requestBody"] = {
      {"content", {{"application/json", {{"schema", Ref("PredictionRequest")}}}}}};
  operation["responses"]["422"] = Answer(Ref("HTTPValidationError"), "Validation Error");
  if (output == OutputKind::kList) operation["x-cog-streaming"] = true;
  return operation;
}

json PathParameter() {
  return json::array({{{"in", "path"},
                       {"name", "prediction_id"},
                       {"required", true},
                       {"schema", StringField("Prediction Id")}}});
}

json Paths(OutputKind output) {
  json paths;
  paths["/"]["get"] = Operation("root__get", "Root", json::object());
  paths["/health-check"]["get"] =
      Operation("healthcheck_health_check_get", "Healthcheck", json::object());
  paths["/shutdown"]["post"] = Operation("shutdown_shutdown_post", "Shutdown", json::object());
  paths["/predictions"]["post"] = Predict("predict_predictions_post", "Predict", output);
  json& by_id = paths["/predictions/{prediction_id}"];
  by_id["put"] =
      Predict("predict_idempotent_predictions__prediction_id__put", "Predict Idempotent", output);
  by_id["put"]["parameters"] = PathParameter();
  by_id["get"] = Operation("get_prediction_predictions__prediction_id__get", "Get Prediction",
                           Ref("PredictionResponse"));
  by_id["get"]["parameters"] = PathParameter();
  json& cancel = paths["/predictions/{prediction_id}/cancel"]["post"];
  cancel = Operation("cancel_predictions__prediction_id__cancel_post", "Cancel", json::object());
  cancel["parameters"] = PathParameter();
  cancel["responses"]["422"] = Answer(Ref("HTTPValidationError"), "Validation Error");
  return paths;
}

}  // namespace

json OpenApiDocument(OutputKind output) {
  json schemas;
  AddInputs(schemas);
  AddObjects(schemas);
  schemas["Output"] = OutputSchema(output);
  return {{"components", {{"schemas", std::move(schemas)}}},
          {"info", {{"title", "Cog"}, {"version", kCogVersion}}},
          {"openapi", "3.0.2"},
          {"paths", Paths(output)}};
}

}  // namespace idefics
