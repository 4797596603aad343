#include "thermal/sensor.h"

#include "thermal/sensor_linux.h"
#include "thermal/sensor_mac.h"

namespace axon {

Result<std::unique_ptr<Sensor>> open_sensor(const std::string& root) {
#if defined(__APPLE__)
  if (root.empty()) return open_mac_sensor();
#endif
  return open_linux_sensor(root);
}

}  // namespace axon
