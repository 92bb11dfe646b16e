#pragma once

#include <string_view>

// Closed sets of configuration values. The names stand once, in EnumNames, in the order of the
// enumerators; parsing, printing and error messages read them there.
namespace trainer {

enum class ModelName { kRetinanet, kFcn, kMlp, kCnn, kClassifier };
enum class Backbone { kResnet18, kResnet34, kResnet50, kResnet101, kResnext50, kVgg16 };
enum class FcnHead { kDilated, k32s, k16s, k8s };
enum class Norm { kBatch, kFrozen, kSync, kGroup };
enum class Deconvolution { kFixed, kLearned };
enum class LossReduction { kMean, kSum };
enum class DataFormat { kCoco, kVoc, kMasks, kMnist, kFolders, kShapes };
enum class LabelMap { kContiguous, kIds, kCityscapes };
enum class Resize { kFit, kCrop, kNone };
enum class OnError { kStop, kSkip };
enum class OptimizerName { kSgd, kAdam, kAdamw, kAdagrad, kRmsprop, kLars };
enum class DecayMode { kCoupled, kDecoupled, kLoss };
enum class Convention { kHalf, kFull };
enum class DecayScale { kLr, kScheduleOnly };
enum class DecaySchedule { kConstant, kLinear, kCosine };
enum class ParameterKind { kWeight, kBias, kNorm, kScale, kFixed };
enum class ScheduleType { kConstant, kStep, kPoly, kCosine };
enum class DeviceChoice { kAuto, kCpu, kCuda };
enum class Precision { kAuto, kFp32, kBf16 };
enum class ConvChoice { kAuto, kDirect };
enum class Reduction { kAuto, kExact, kFast };
enum class Capture { kAuto, kNone };
enum class EvalWeights { kRaw, kEma };

template <typename E>
struct EnumNames;

#define RIDGELINE_ENUM_NAMES(type, ...)                        \
  template <>                                                  \
  struct EnumNames<type> {                                     \
    static constexpr std::string_view names[] = {__VA_ARGS__}; \
  }
RIDGELINE_ENUM_NAMES(ModelName, "retinanet", "fcn", "mlp", "cnn", "classifier");
RIDGELINE_ENUM_NAMES(Backbone, "resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d",
                     "vgg16");
RIDGELINE_ENUM_NAMES(FcnHead, "dilated", "32s", "16s", "8s");
RIDGELINE_ENUM_NAMES(Norm, "batch", "frozen", "sync", "group");
RIDGELINE_ENUM_NAMES(Deconvolution, "fixed", "learned");
RIDGELINE_ENUM_NAMES(LossReduction, "mean", "sum");
RIDGELINE_ENUM_NAMES(DataFormat, "coco", "voc", "masks", "mnist", "folders", "shapes");
RIDGELINE_ENUM_NAMES(LabelMap, "contiguous", "ids", "cityscapes");
RIDGELINE_ENUM_NAMES(Resize, "fit", "crop", "none");
RIDGELINE_ENUM_NAMES(OnError, "stop", "skip");
RIDGELINE_ENUM_NAMES(OptimizerName, "sgd", "adam", "adamw", "adagrad", "rmsprop", "lars");
RIDGELINE_ENUM_NAMES(DecayMode, "coupled", "decoupled", "loss");
RIDGELINE_ENUM_NAMES(Convention, "half", "full");
RIDGELINE_ENUM_NAMES(DecayScale, "lr", "schedule_only");
RIDGELINE_ENUM_NAMES(DecaySchedule, "constant", "linear", "cosine");
RIDGELINE_ENUM_NAMES(ParameterKind, "weight", "bias", "norm", "scale", "fixed");
RIDGELINE_ENUM_NAMES(ScheduleType, "constant", "step", "poly", "cosine");
RIDGELINE_ENUM_NAMES(DeviceChoice, "auto", "cpu", "cuda");
RIDGELINE_ENUM_NAMES(Precision, "auto", "fp32", "bf16");
RIDGELINE_ENUM_NAMES(ConvChoice, "auto", "direct");
RIDGELINE_ENUM_NAMES(Reduction, "auto", "exact", "fast");
RIDGELINE_ENUM_NAMES(Capture, "auto", "none");
RIDGELINE_ENUM_NAMES(EvalWeights, "raw", "ema");
#undef RIDGELINE_ENUM_NAMES

template <typename E>
constexpr auto to_string(E value) -> decltype(EnumNames<E>::names[0]) {
  return EnumNames<E>::names[static_cast<int>(value)];
}

}  // namespace trainer
