import com.pixelmed.dicom.AttributeList;
import com.pixelmed.dicom.TagFromName;
import com.pixelmed.validate.DicomInstanceValidator;
import com.pixelmed.validate.DicomSRValidator;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;

/**
 * PixelMed's validators as one process, as their own `main` calls them: each compiles its rules once, which takes seconds.
 *
 * A line of standard input names a validator, and the next line a file; what the validator says goes to standard output,
 * with a line that says END behind.
 */
class Validators {
    private static DicomSRValidator templates;
    private static DicomInstanceValidator instances;

    public static void main(String[] arguments) throws Exception {
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (var name = input.readLine(); name != null; name = input.readLine()) {
            String statement;
            try {
                statement = statement(name, input.readLine());
            } catch (Exception error) {
                statement = error.toString();
            }
            System.out.write((statement + "\nEND\n").getBytes(StandardCharsets.UTF_8));
            System.out.flush();
        }
    }

    private static String statement(String name, String path) throws Exception {
        var list = new AttributeList();
        switch (name) {
            case "DicomSRValidator":
                templates = templates == null ? new DicomSRValidator() : templates;
                list.read(path);
                return templates.validate(list);
            case "DicomInstanceValidator":
                instances = instances == null ? new DicomInstanceValidator() : instances;
                list.read(path, TagFromName.PixelData);
                return instances.validate(list);
            default:
                throw new IllegalArgumentException(name);
        }
    }
}
