import { app } from "../../scripts/app.js";
import { nodeReportExtension } from "./node_report.js";
import { registerPointPicker } from "./point_picker/host/extension.js";
import { settingsExtension } from "./settings.js";

registerPointPicker();
app.registerExtension(nodeReportExtension());
app.registerExtension(settingsExtension());
