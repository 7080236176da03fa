import { app } from "../../scripts/app.js";
import { registerPointPicker } from "./point_picker/host/extension.js";
import { settingsExtension } from "./settings.js";

registerPointPicker();
app.registerExtension(settingsExtension());
