#include "models/model.h"

namespace models {

std::unique_ptr<Model> make_model(const ModelOptions& options) {
  if (options.name == "retinanet") return make_retinanet(options);
  if (options.name == "fcn") return make_fcn(options);
  if (options.name == "mlp" || options.name == "cnn" || options.name == "classifier") {
    return make_classifier(options);
  }
  comm::fail(comm::ExitCode::kConfig, "model.name: '{}' does not exist", options.name);
}

}  // namespace models
