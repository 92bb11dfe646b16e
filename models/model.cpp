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

int resnet_depth(const std::string& backbone) {
  for (int depth : {18, 34, 50, 101}) {
    if (backbone == "resnet" + std::to_string(depth)) return depth;
  }
  comm::fail(comm::ExitCode::kConfig,
             "model.backbone: '{}' does not exist for this model; use resnet18, resnet34, "
             "resnet50 or resnet101",
             backbone);
}

}  // namespace models
